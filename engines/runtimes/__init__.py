"""One engine a file. Read `ort.OrtEngine` first: the others differ from it in what they call."""
