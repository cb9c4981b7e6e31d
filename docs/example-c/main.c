/* Plays 1,000 steps of CartPole without velocities with an exported policy: it sees where the cart and
 * the pole are, and its memory tells how fast they move. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "policy.h"

enum { STEPS = 1000, LONGEST = 500 };

typedef struct {
    double x, v, angle, spin;
} Pole;

static uint32_t seed = 1;

/* Uniform in -0.05 .. 0.05 (Numerical Recipes' linear congruential generator). */
static double start(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed / 4294967296.0 * 0.1 - 0.05;
}

/* Gymnasium's CartPole-v1: explicit Euler steps of 0.02 s. Returns whether it still stands. */
static int advance(Pole *p, int right) {
    const double force = right ? 10.0 : -10.0, c = cos(p->angle), s = sin(p->angle);
    const double common = (force + 0.05 * p->spin * p->spin * s) / 1.1;
    const double spin_up = (9.8 * s - c * common) / (0.5 * (4.0 / 3.0 - 0.1 * c * c / 1.1));
    const double speed_up = common - 0.05 * spin_up * c / 1.1;
    p->x += 0.02 * p->v;
    p->v += 0.02 * speed_up;
    p->angle += 0.02 * p->spin;
    p->spin += 0.02 * spin_up;
    return fabs(p->x) <= 2.4 && fabs(p->angle) <= 12 * 2 * 3.14159265358979323846 / 360;
}

int main(void) {
    policy_state state;
    Pole pole = {0, 0, 0, 0};
    const uint8_t mask[2] = {1, 1};
    int lasted = 0, standing = 0;
    for (int step = 0; step < STEPS; step++) {
        if (!standing || lasted == LONGEST) {
            if (step) printf("an episode of %d steps\n", lasted);
            pole = (Pole){start(), start(), start(), start()};
            lasted = 0;
            policy_reset(&state);
        }
        const float seen[2] = {(float)pole.x, (float)pole.angle};
        int64_t action[1];
        const int status = policy_step(&state, seen, mask, action);
        if (status != POLICY_OK) {
            fprintf(stderr, "the policy refuses the observation: status %d\n", status);
            return 1;
        }
        standing = advance(&pole, action[0] == 1);
        lasted++;
    }
    printf("an episode of %d steps, cut off\n", lasted);
    return 0;
}
