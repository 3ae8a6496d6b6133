"""All SQL of the project: the two schemas as ordered migrations, node files, the main database, collect."""
