"""Google's Gemini API and Vertex AI on the mock server."""
