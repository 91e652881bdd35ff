"""The API and the dashboard over HTTP: `spanledger serve`, and part of `spanledger up` (`docs/api.md`)."""
