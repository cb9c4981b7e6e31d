"""Many runs: suites of tasks, benchmarks, and the comparison of what came of them."""
