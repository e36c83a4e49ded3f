import zstandard

from appliance.protocol import dictionaries


def test_the_shipped_dictionaries_carry_the_ids_that_frames_name() -> None:
    number, current = dictionaries.current()

    assert dictionaries.id_of(dictionaries.legacy()) == dictionaries.LEGACY_ID == 1612007021
    assert dictionaries.id_of(current) == number == 20260811
    assert (len(dictionaries.legacy()), len(current)) == (112640, 65536)


def test_a_frame_made_with_the_dictionary_is_read_with_it() -> None:
    dictionary = zstandard.ZstdCompressionDict(dictionaries.legacy())
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(b'{"kind":"commit"}')

    assert zstandard.get_frame_parameters(frame).dict_id == dictionaries.LEGACY_ID
    assert zstandard.ZstdDecompressor(dict_data=dictionary).decompress(frame) == b'{"kind":"commit"}'
