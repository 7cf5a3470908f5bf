"""Why an object is not decoded or drawn. The text is the reason that is told: in words, without any value of the patient's."""


class Undecodable(ValueError):
    """The frame is not what the data set says of it, or nobody knows how to read it."""


class Unrenderable(ValueError):
    """Decoded, and not an image that can be drawn rightly, or one that is too large to be drawn."""
