"""Statistics and figures of the experiments, and the page docs/paper.md."""
