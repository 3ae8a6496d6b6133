// gzip without DecompressionStream (browsers before 2023): RFC 1952 around RFC 1951, table by table.
function inflateGzip(bytes) {
  "use strict";
  const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
  const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
  const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
  const DISTANCE_BITS = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
  const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4, true);
  const out = new Uint8Array(size);
  let at = 10, bits = 0, held = 0, end = 0;   // page.py's gzip: a header of ten bytes, no name

  function take(count) {
    while (held < count) { bits |= bytes[at++] << held; held += 8; }
    const value = bits & ((1 << count) - 1);
    bits >>>= count; held -= count;
    return value;
  }
  function table(lengths) {
    const counts = new Uint16Array(16), offsets = new Uint16Array(16), symbols = new Uint16Array(lengths.length);
    for (const length of lengths) counts[length]++;
    counts[0] = 0;
    for (let i = 1; i < 16; i++) offsets[i] = offsets[i - 1] + counts[i - 1];
    lengths.forEach((length, symbol) => { if (length) symbols[offsets[length]++] = symbol; });
    return { counts, symbols };
  }
  function symbol({ counts, symbols }) {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; length++) {
      code |= take(1);
      const count = counts[length];
      if (code - count < first) return symbols[index + code - first];
      index += count; first = (first + count) << 1; code <<= 1;
    }
    throw new Error("the page is damaged: bad code");
  }
  function lengthsOf(count, codes) {
    const found = [];
    while (found.length < count) {
      const next = symbol(codes);
      if (next < 16) { found.push(next); continue; }
      const value = next === 16 ? found[found.length - 1] : 0;
      const times = next === 16 ? 3 + take(2) : next === 17 ? 3 + take(3) : 11 + take(7);
      for (let i = 0; i < times; i++) found.push(value);
    }
    return found;
  }
  function fixed() {
    const lengths = Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8));
    return [table(lengths), table(new Array(30).fill(5))];
  }
  function dynamic() {
    const literals = take(5) + 257, distances = take(5) + 1, codes = take(4) + 4;
    const lengths = new Array(19).fill(0);
    for (let i = 0; i < codes; i++) lengths[ORDER[i]] = take(3);
    const all = lengthsOf(literals + distances, table(lengths));
    return [table(all.slice(0, literals)), table(all.slice(literals))];
  }
  function stored() {
    bits = held = 0;
    const length = bytes[at] | (bytes[at + 1] << 8);
    out.set(bytes.subarray(at + 4, at + 4 + length), end);
    at += 4 + length; end += length;
  }
  function block([literals, distances]) {
    for (let next = symbol(literals); next !== 256; next = symbol(literals)) {
      if (next < 256) { out[end++] = next; continue; }
      const length = LENGTHS[next - 257] + take(LENGTH_BITS[next - 257]);
      const far = symbol(distances), distance = DISTANCES[far] + take(DISTANCE_BITS[far]);
      for (let i = 0; i < length; i++, end++) out[end] = out[end - distance];
    }
  }
  for (let last = 0; !last;) {
    last = take(1);
    const kind = take(2);
    if (kind === 0) stored();
    else if (kind === 3) throw new Error("the page is damaged: bad block");
    else block(kind === 1 ? fixed() : dynamic());
  }
  return out;
}
