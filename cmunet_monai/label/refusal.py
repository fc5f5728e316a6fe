"""What a request gets that cannot be answered."""


class RequestRefusedError(ValueError):
    """A mistake in a request: its text goes to the client, and so names nothing of the server's.

    Args:
        text: what was expected and what came.
        status: of the HTTP response.
    """

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
