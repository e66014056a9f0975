"""Laws over the package, and the oracle that they are checked against."""
