// Making and filling elements. Text is only ever set as text: a label called <script> stays one.

/** @typedef {string | number | boolean | null | ((event: any) => void)} Attribute */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, Attribute>} [attributes] functions listen to the event that they are named after
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/**
 * @param {Element} target
 * @param {Record<string, Attribute>} attributes
 */
export function setAttributes(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") target.addEventListener(name, value);
    else if (value === null || value === false) target.removeAttribute(name);
    else target.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * A choice among names.
 *
 * @param {string} name what is chosen, for readers
 * @param {readonly (readonly [value: string, text: string])[]} options
 * @param {(value: string) => void} chosen
 */
export function select(name, options, chosen) {
  const made = element("select", { "aria-label": name, change: () => chosen(made.value) });
  made.append(...options.map(([value, text]) => element("option", { value }, text)));
  return made;
}

/**
 * A number as a reader wants it.
 *
 * @param {number | null | undefined} value null is infinite
 * @param {number} [digits] significant ones; a whole part is never cut
 */
export function shown(value, digits = 4) {
  if (value === undefined) return "";
  if (value === null || !Number.isFinite(value)) return "∞";
  if (value === 0) return "0";
  return Math.abs(value) >= 10 ** (digits - 1) ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
}

/**
 * @param {number} share
 */
export function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

/**
 * @param {number} number
 * @param {string} what one of them
 */
export function counted(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
