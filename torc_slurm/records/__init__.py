"""What packages hand to one another: statuses, figures, accounting rows and the rows of workflows."""
