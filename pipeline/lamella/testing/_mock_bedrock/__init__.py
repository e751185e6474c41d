"""Amazon Bedrock's runtime API on the mock server."""
