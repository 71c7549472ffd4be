"""The outcomes a molecule can have instead of a sample, each with the name that receipts use."""


class MoleculeFailed(Exception):
    """This is the molecule's outcome; everything else that is raised is a fault of the machine or of ours."""

    reason: str


class InvalidInput(MoleculeFailed):
    reason = "invalid_input"


class EmptyPocket(MoleculeFailed):
    reason = "empty_pocket"


class Clash(MoleculeFailed):
    reason = "clash"


class UnsupportedElement(MoleculeFailed):
    reason = "unsupported_element"


class EmbeddingFailed(MoleculeFailed):
    reason = "embedding_failed"


class NotConverged(MoleculeFailed):
    reason = "not_converged"


class WrongElectronCount(MoleculeFailed):
    reason = "wrong_electron_count"


class TooLarge(MoleculeFailed):
    reason = "too_large"


class TimedOut(MoleculeFailed):
    reason = "timeout"


class Crashed(MoleculeFailed):
    reason = "crashed"


class OutOfMemory(MoleculeFailed):
    reason = "out_of_memory"


class FailedBefore(MoleculeFailed):
    """The end it had in the store whose wavefunctions are used."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
