"""The report: pages made from stored data alone (``build_report``), and the matrix for the README."""
