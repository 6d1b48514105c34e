"""The API that a team's own systems call, below ``/v1``."""
