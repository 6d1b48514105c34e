"""Everything that is called over HTTP: providers' callbacks, recipients' pages, the hosted pixel, the API."""
