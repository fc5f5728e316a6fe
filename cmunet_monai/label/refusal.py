"""What a request gets that cannot be answered."""

from cmunet_monai.files.atomic import FULL


class RequestRefusedError(ValueError):
    """A mistake in a request: its text goes to the client, and so names nothing of the server's.

    Args:
        text: what was expected and what came.
        status: of the HTTP response.
    """

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def refusal_of(error: OSError) -> RequestRefusedError | None:
    """What a request gets where the disk is full; None for another error."""
    if error.errno not in FULL:
        return None
    return RequestRefusedError(
        f"nothing of the request was kept: {error.strerror} (the disk of the server's workspace)", status=507
    )
