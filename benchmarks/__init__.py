"""Speed and accuracy of engines, measured and reported side by side."""
