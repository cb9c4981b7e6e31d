"""Functions of arrays in C, for the source of an exported policy, by name."""

from __future__ import annotations

HELPERS: dict[str, str] = {
    "sum_of": """\
/* Eight sums side by side, which a compiler can take at once. */
static float sum_of(const float *x, int n) {
    float s[8] = {0};
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) s[j] += x[i + j];
    }
    for (; i < n; i++) s[0] += x[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}
""",
    "largest_of": """\
static float largest_of(const float *x, int n) {
    float largest = x[0];
    for (int i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}
""",
    "place_of_largest": """\
static int place_of_largest(const float *x, int n) {
    int place = 0;
    for (int i = 1; i < n; i++) place = x[i] > x[place] ? i : place;
    return place;
}
""",
    "dot": """\
/* Eight sums side by side, as above. */
static float dot(const float *a, const float *b, int n) {
    float s[8] = {0};
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) s[j] += a[i + j] * b[i + j];
    }
    for (; i < n; i++) s[0] += a[i] * b[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}
""",
    "product": """\
/* y[n] = begin[n] + sum over k of x[k] w[k, n]; no begin: 0. Four rows of w at a time. */
static void product(float *restrict y, const float *restrict x, const float *restrict w,
                    const float *restrict begin, int rows, int columns) {
    int k = 0;
    for (int n = 0; n < columns; n++) y[n] = begin ? begin[n] : 0;
    for (; k + 4 <= rows; k += 4, w += 4 * columns) {
        const float a = x[k], b = x[k + 1], c = x[k + 2], d = x[k + 3];
        for (int n = 0; n < columns; n++) {
            y[n] += (a * w[n] + b * w[columns + n])
                  + (c * w[2 * columns + n] + d * w[3 * columns + n]);
        }
    }
    for (; k < rows; k++, w += columns) {
        for (int n = 0; n < columns; n++) y[n] += x[k] * w[n];
    }
}
""",
    "product8": """\
/* The same of factors in 8 bits, w[k, n] times scale[n]. */
static void product8(float *restrict y, const float *restrict x, const int8_t *restrict w,
                     const float *restrict scale, const float *restrict begin, int rows,
                     int columns) {
    for (int n = 0; n < columns; n++) y[n] = 0;
    for (int k = 0; k < rows; k++, w += columns) {
        for (int n = 0; n < columns; n++) y[n] += x[k] * w[n];
    }
    for (int n = 0; n < columns; n++) y[n] = (begin ? begin[n] : 0) + scale[n] * y[n];
}
""",
    "convolution": """\
/* For each place the numbers of an image [channels, height, width] under the kernel, in a row,
 * times the factors; with a stride down and across, and zeros around the image. */
static void convolution(float *restrict y, const float *restrict x, const float *restrict w,
                        const float *restrict bias, int channels, int height, int width, int outs,
                        int rows, int columns, int high, int wide, int down, int across, int above,
                        int left, float *restrict patch, float *restrict sums) {
    for (int i = 0; i < high * wide; i++) {
        float *to = patch;
        for (int c = 0; c < channels; c++) {
            for (int r = 0; r < rows; r++) {
                for (int s = 0; s < columns; s++) {
                    const int line = i / wide * down + r - above;
                    const int place = i % wide * across + s - left;
                    const int inside = line >= 0 && line < height && place >= 0 && place < width;
                    *to++ = inside ? x[(c * height + line) * width + place] : 0;
                }
            }
        }
        product(sums, patch, w, bias, channels * rows * columns, outs);
        for (int f = 0; f < outs; f++) y[f * high * wide + i] = sums[f];
    }
}
""",
}
