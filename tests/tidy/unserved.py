"""Why methods of the published schemas are not answered here, by the longest beginning of their names."""

from typing import Final

_PDS = "a PDS answers it for the accounts that it hosts; members' calls are not ours to make up"
_SKELETON = "between an AppView and a search or suggestion service; no client calls it"

# A name belongs to the longest beginning that fits.
WHY_NOT: Final = {
    "app.bsky.ageassurance.begin": "ages are not checked here; the state says full access",
    "app.bsky.contact.": "address books and telephone numbers are not taken",
    "app.bsky.embed.getEmbedExternalView": "cards are shown as their posts bring them",
    "app.bsky.unspecced.getOnboardingSuggestedStarterPacksSkeleton": _SKELETON,
    "app.bsky.unspecced.getOnboardingSuggestedUsersSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestedFeedsSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestedStarterPacksSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestedUsersFor": "no suggestion service, as the official server without one",
    "app.bsky.unspecced.getSuggestedUsersForDiscoverSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestedUsersForExploreSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestedUsersForSeeMoreSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestedUsersSkeleton": _SKELETON,
    "app.bsky.unspecced.getSuggestionsSkeleton": _SKELETON,
    "app.bsky.unspecced.getTaggedSuggestions": "no suggestion service, as the official server without one",
    "app.bsky.unspecced.getTrend": "no topics service, as the official server without one: nothing is ranked",
    "app.bsky.unspecced.getTrendsSkeleton": _SKELETON,
    "app.bsky.unspecced.initAgeAssurance": "ages are not checked here; the state says full access",
    "app.bsky.unspecced.search": _SKELETON,
    "app.bsky.video.": "videos are uploaded to a video service, or as blobs to the member's PDS",
    "com.atproto.admin.": _PDS,
    "com.atproto.identity.": _PDS,
    "com.atproto.label.subscribeLabels": "we label nothing",
    "com.atproto.lexicon.resolveLexicon": "schemas come with the program",
    "com.atproto.repo.importRepo": _PDS,
    "com.atproto.server.": _PDS,
    "com.atproto.sync.": "repositories are read from their PDS; a relay tells of their changes",
    "com.atproto.temp.": "of the official PDS's own sign-up",
}


def why_not(nsid: str) -> str:
    """The reason, and '' where none is given."""
    fitting = max((begin for begin in WHY_NOT if nsid.startswith(begin)), key=len, default="")
    return WHY_NOT.get(fitting, "")
