"""The stop lists of both rules, for both peers; written out here so that the peers share nothing with the product."""

_CLASSIC = (
    "a amp an and are as at be been but by co do for has have he her him his https if in is it me my no not of on or "
    "rt s she so t than that the they this to us was we what with you your who when via "
    "b c d e f g h i j k l m n o p q r u v w x y z"
)


def stop_words(rules: str) -> list[str]:
    if rules == "classic":
        return _CLASSIC.split()
    import stopwordsiso

    return sorted(stopwordsiso.stopwords("en"))
