"""Microsoft Presidio's recognisers as a detector of personal data, for Lamella."""
