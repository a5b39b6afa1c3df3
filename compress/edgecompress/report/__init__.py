"""The report: its document, and the pages made from it."""
