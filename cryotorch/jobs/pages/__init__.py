"""What ``report.html`` says of a run beyond its files: parameters, what to go on with, whose methods it used; and where it is written."""
