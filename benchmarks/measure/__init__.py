"""One quantity a file, each with its unit and its conditions. Read `interleaved` first, then `speed` and `accuracy`."""
