"""Functions of one number in C, for the source of an exported policy.

Those of the C library are called number by number. These have no branch, so that a compiler makes
vector code of a loop over them, and are within a few roundings of the exact value. What is not a
number stays so. `inline` asks gcc to put them into every loop, however many there are.
"""

from __future__ import annotations

NAMES = {
    **{"exp": "exponential", "sigmoid": "sigmoid", "tanh": "tangent", "erf": "error"},
    **{"sin": "sine", "cos": "cosine"},
}
"""In C, of floats, by the kind of operation."""

FUNCTIONS: dict[str, str] = {
    "bits_of": """\
static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
""",
    "of_bits": """\
static inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
""",
    "chosen": """\
/* first ? a : b, where first is 0 or 1. */
static inline float chosen(uint32_t first, float a, float b) {
    return of_bits((bits_of(a) & -first) | (bits_of(b) & (first - 1)));
}
""",
    "between": """\
static inline float between(float x, float low, float high) {
    x = chosen(x > low, x, low);
    return chosen(x < high, x, high);
}
""",
    "unless_nan": """\
/* y, or x where that is not a number. */
static inline float unless_nan(float x, float y) {
    return chosen((bits_of(x) & 0x7fffffffu) > 0x7f800000u, x, y);
}
""",
    "half": """\
/* One half with the sign of x: x + half(x), cut off, is the nearest integer. */
static inline float half(float x) { return of_bits((bits_of(x) & 0x80000000u) | 0x3f000000u); }
""",
    "power": """\
/* e^x = 2^n e^r with |r| <= ln(2) / 2, for |x| <= 88: the Taylor series of e^r - 1 to the seventh
 * power is exact to a rounding. Gives that, and 2^n in `scale`. */
static inline float power(float x, float *scale) {
    const float twos = x * 1.44269504f;
    const int32_t n = (int32_t)(twos + half(twos));
    const float r = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
    float q = r * (1.0f / 5040) + (1.0f / 720);
    q = q * r + (1.0f / 120);
    q = q * r + (1.0f / 24);
    q = q * r + (1.0f / 6);
    q = q * r + 0.5f;
    *scale = of_bits((uint32_t)(n + 127) << 23);
    return q * r * r + r;
}
""",
    "exponential": """\
/* The square of e^(x / 2): what is too large becomes infinite, what is too small 0. */
static inline float exponential(float x) {
    float scale;
    const float p = power(0.5f * between(x, -174, 176), &scale), y = scale * p + scale;
    return unless_nan(x, y * y);
}
""",
    "sigmoid": """\
static inline float sigmoid(float x) {
    float scale;
    const float p = power(-between(x, -80, 80), &scale);
    return unless_nan(x, 1 / (scale * p + scale + 1));
}
""",
    "tangent": """\
/* tanh x = e / (e + 2), where e = e^2x - 1 is exact also near 0. */
static inline float tangent(float x) {
    float scale;
    const float p = power(2 * between(x, -9.5f, 9.5f), &scale), e = scale * p + (scale - 1);
    return unless_nan(x, e / (e + 2));
}
""",
    "error": """\
/* The error function: a polynomial in x up to 1, then 1 - e^-g(x); from 4 on it is 1. Both were
 * fitted by least squares and are exact to 2e-9. */
static inline float error(float x) {
    float scale;
    const float b = between(x, -4, 4), t = b * b, a = chosen(b < 0, -b, b);
    float s = t * 7.88249711e-05f - 0.000801885499f, g = a * -0.000185577525f + 0.00293964086f;
    s = s * t + 0.00518931194f;
    s = s * t - 0.0268543288f;
    s = s * t + 0.112835975f;
    s = s * t - 0.376126269f;
    s = s * t + 0.12837917f;
    g = g * a - 0.021805449f;
    g = g * a + 0.103037634f;
    g = g * a + 0.638225379f;
    g = g * a + 1.12704021f;
    g = g * a + 0.000353677461f;
    const float p = power(-g, &scale), far = (1 - scale) - scale * p;
    return unless_nan(x, chosen(a < 1, b + b * s, chosen(b < 0, -far, far)));
}
""",
    "turned": """\
/* The sine of x and so many quarters of a turn: Taylor's series of sine or cosine for what is left
 * of x beside the next quarter. Beyond 1e9, floats are farther apart than a turn. */
static inline float turned(float x, int32_t quarters) {
    const float b = between(x, -1e9f, 1e9f);
    const int32_t n = (int32_t)(b * 0.63661977236758134 + half(b)), q = n + quarters;
    const float r = (float)(b - n * 1.5707963267948966), t = r * r;
    float s = t * (1.0f / 362880) - (1.0f / 5040), c = t * (-1.0f / 3628800) + (1.0f / 40320);
    s = s * t + (1.0f / 120);
    s = s * t - (1.0f / 6);
    c = c * t - (1.0f / 720);
    c = c * t + (1.0f / 24);
    c = c * t - 0.5f;
    const float y = chosen((uint32_t)(q & 1), c * t + 1, s * t * r + r);
    return unless_nan(x * 0, of_bits(bits_of(y) ^ (uint32_t)(q & 2) << 30));
}
""",
    "sine": "static inline float sine(float x) { return turned(x, 0); }\n",
    "cosine": "static inline float cosine(float x) { return turned(x, 1); }\n",
    "leastf": "static inline float leastf(float a, float b) { return a < b ? a : b; }\n",
    "greatestf": "static inline float greatestf(float a, float b) { return a > b ? a : b; }\n",
    "least": "static inline double least(double a, double b) { return a < b ? a : b; }\n",
    "greatest": "static inline double greatest(double a, double b) { return a > b ? a : b; }\n",
    "modulo": """\
/* The remainder with the sign of b. */
static inline double modulo(double a, double b) {
    const double r = a - b * floor(a / b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
""",
    "modulof": """\
/* The remainder with the sign of b. */
static inline float modulof(float a, float b) {
    float r = fmodf(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
""",
}
