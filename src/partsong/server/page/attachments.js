// @ts-check
// Files that are dropped, pasted or chosen: what is refused, and the mark that shows where they may be dropped.

const PICTURES = /^image\/(png|jpeg|gif|webp)$/;
const LOOKED_AT = 4096; // bytes of a file that tell whether it is text

/** @param {File} file */
export const isPicture = ({ type }) => PICTURES.test(type);

/**
 * Why a file is refused, in words; "" if it may be asked about.
 *
 * @param {File} file
 */
export async function refusalOf(file) {
  if (isPicture(file)) return "";
  if (file.type.startsWith("image/")) return `${file.name}: pictures must be PNG, JPEG, GIF or WebP`;
  const bytes = new Uint8Array(await file.slice(0, LOOKED_AT).arrayBuffer());
  const pdf = new TextDecoder("latin1").decode(bytes).includes("%PDF-");
  if (pdf || !bytes.includes(0)) return bytes.length ? "" : `${file.name}: is empty`;
  return `${file.name}: is neither a picture nor a PDF nor text`;
}

/**
 * Mark `element` while files are over the page, and take them wherever they are dropped, as long as it is shown.
 *
 * @param {HTMLElement} element
 * @param {(event: DragEvent) => void} take
 */
export function acceptDrops(element, take) {
  const off = new AbortController();
  let left = 0;
  const hear = (/** @type {DragEvent} */ event) => {
    if (!element.isConnected) return off.abort();
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // the browser would show the file instead of the page
    clearTimeout(left);
    const over = event.type === "dragover";
    element.classList.toggle("dropping", over);
    if (over) left = setTimeout(() => element.classList.remove("dropping"), 400);
    else take(event);
  };
  for (const name of /** @type {const} */ (["dragover", "drop"])) addEventListener(name, hear, off);
}
