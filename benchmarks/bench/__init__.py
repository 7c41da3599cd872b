"""What `cliphand bench` does: read `run.run_bench` first; `rows` is one line of its table, `table` the text."""
