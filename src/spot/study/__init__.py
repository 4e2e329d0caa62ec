"""Studies of transfer: from a file to cells, from cells to records, from records to findings and their report."""
