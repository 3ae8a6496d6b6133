"""The names of files under the output directory, and safe ways to write there and on the node."""
