"""HL7 in: messages, the reports in them, and their way to the archive."""
