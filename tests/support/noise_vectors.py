"""Vectors of Noise_NN_25519_AESGCM_SHA256 that others have published."""

__all__ = ["HASH", "INITIATOR", "MESSAGES", "PROLOGUE", "RESPONDER"]

# cacophony, vectors/cacophony.txt (https://github.com/haskell-cryptography/cacophony), the vector
# of this protocol name; the same stands in the tests of snow and of noiseprotocol.
PROLOGUE = bytes.fromhex("4a6f686e2047616c74")
INITIATOR = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
RESPONDER = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
HASH = "6301958d25cd7d1ffe6ad7d0ca2ad284b4e478d9acd9198f7750432d225043d0"
MESSAGES = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
        "4c756477696720766f6e204d69736573",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
        "934ff73eebb9d930ebf62b8e4db8133ca936872b5551efd7c9989c646d8cf0",
    ),
    ("462e20412e20486179656b", "8d372b94914e80018211a344b8b1c5a2869492a0db46990c0362f3"),
    ("4361726c204d656e676572", "e183b0abd55550f9955fb05476d988c6f27628d7bbde111c39ccbc"),
    (
        "4a65616e2d426170746973746520536179",
        "167293a79ad6a647114c4f4eb55bdf713a0d44ae48765c07fc4e57743100825021",
    ),
    (
        "457567656e2042f6686d20766f6e2042617765726b",
        "2b67a18ae246069c51687bee89141041d9d35a821f852975d169a4f80f75c735807a1fd157",
    ),
]
