// Plays episodes of recurrent_rl/TMaze-v0 with an exported policy: ./play [policy.onnx [LENGTH]]

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

#include "policy.hpp"

enum Action { FORWARD, BACK, LEFT, RIGHT };
enum Seen { SIGN_LEFT, SIGN_RIGHT, CORRIDOR, JUNCTION };

// One episode, whose sign is 0 for left and 1 for right.
struct Maze {
    int length, sign, position = 0, steps = 0, turned = -1;

    std::int64_t observation() const {
        if (steps == 0) return sign;
        return position == length ? JUNCTION : CORRIDOR;
    }

    bool done() const { return turned >= 0 || steps >= 2 * length + 2; }

    void step(std::int64_t action) {
        ++steps;
        if (position == length) {
            if (action >= LEFT) turned = static_cast<int>(action - LEFT);
        } else if (action == FORWARD) {
            ++position;
            return;
        }
        if (action == BACK && position > 0) --position;
    }
};

int main(int count, char **words) {
    const std::string path = count > 1 ? words[1] : "policy.onnx";
    const int length = count > 2 ? std::atoi(words[2]) : 10;
    try {
        Policy policy(path);
        for (int sign : {SIGN_LEFT, SIGN_RIGHT, SIGN_LEFT, SIGN_RIGHT}) {
            Maze maze{length, sign};
            policy.reset();
            while (!maze.done()) {
                policy.set<std::int64_t>("obs", {maze.observation()});
                policy.step();
                const std::int64_t action = policy.output<std::int64_t>("action")[0];
                maze.step(action);
                std::cout << action << ' ';
            }
            std::cout << (maze.turned == sign ? "correct\n" : "wrong\n");
        }
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
