"""Amazon Bedrock's Converse API for Lamella."""
