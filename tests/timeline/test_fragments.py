import threading

from appliance.timeline.fragments import ENTRY_OVERHEAD_BYTES, Fragments


def test_what_is_asked_for_stays_and_the_rest_goes() -> None:
    cache: Fragments[int] = Fragments(20 * (ENTRY_OVERHEAD_BYTES + 100))
    cache.put("wanted", 1, 100)

    for number in range(200):
        cache.put(number, number, 100)
        assert cache.get("wanted") == 1

    kept = [number for number in range(200) if cache.get(number) is not None]
    assert 5 < len(kept) <= 20
    assert kept[-1] == 199


def test_threads_share_it() -> None:
    cache: Fragments[tuple[int, int]] = Fragments(50_000)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for step in range(3000):
            key = (seed * step) % 97
            found = cache.get(key)
            if found is None:
                cache.put(key, (key, key), 50)
            elif found != (key, key):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
