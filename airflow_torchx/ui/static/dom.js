/** Builds and changes nodes. Texts become text nodes only: data of a program is never markup. */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "polyline", "line"]);
// No attribute that runs code or loads something. `href` is set by `link` alone.
const ATTRIBUTES =
  /^(?:aria-[a-z]+|class|role|tabindex|title|type|name|value|placeholder|for|id|selected|open|hidden|disabled|scope|points|viewBox|preserveAspectRatio|x1|x2|y1|y2|data-[a-z]+)$/;

/** @typedef {Node|string|null|undefined|false} Child */

/**
 * Return a new element.
 * @param {string} tag
 * @param {Object<string, string|number|boolean|null|undefined>} [attributes]
 * @param {...Child} children
 * @returns {any} the element, of the class of its tag
 */
export function h(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * Set an attribute if it has changed; null, undefined and false remove it.
 * @param {Element} node
 * @param {string} name
 * @param {string|number|boolean|null|undefined} value
 */
export function setAttribute(node, name, value) {
  if (!ATTRIBUTES.test(name)) throw new TypeError(`attribute ${name} is not allowed`);
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/**
 * Set the text of a node if it has changed.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Set a custom property of a node if it has changed.
 * @param {HTMLElement} node
 * @param {string} name
 * @param {string} value
 */
export function setVariable(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

/**
 * Return a link to a path of Airflow, which is relative to the host's base.
 * @param {string} path
 * @param {...Child} children
 */
export function link(path, ...children) {
  const node = /** @type {HTMLAnchorElement} */ (h("a", {}, ...children));
  node.href = new URL(path, document.baseURI).href;
  return node;
}

/**
 * @template T
 * @typedef {{node: HTMLElement|SVGElement, update: (item: T) => void}} Part
 */

/**
 * Children of a node, one for each item: what stays is changed in its place, so focus and scroll
 * positions survive.
 * @template T
 */
export class Keyed {
  /**
   * @param {Element} parent
   * @param {(item: T) => string} keyOf
   * @param {(item: T) => Part<T>} create
   */
  constructor(parent, keyOf, create) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.create = create;
    /** @type {Map<string, Part<T>>} */
    this.parts = new Map();
  }

  /** @param {T[]} items with unique keys */
  update(items) {
    const keys = new Set(items.map(this.keyOf));
    for (const [key, part] of this.parts) {
      if (keys.has(key)) continue;
      part.node.remove();
      this.parts.delete(key);
    }
    /** @type {Node|null} */
    let next = this.parent.firstChild;
    for (const item of items) {
      const key = this.keyOf(item);
      let part = this.parts.get(key);
      if (!part) {
        part = this.create(item);
        this.parts.set(key, part);
      }
      if (part.node === next) next = next.nextSibling;
      else this.parent.insertBefore(part.node, next);
      part.update(item);
    }
  }
}

/**
 * Let arrow keys move the focus among the children of a node; one of them is a tab stop.
 * @param {HTMLElement} parent
 * @param {string} selector of the children
 * @param {(child: HTMLElement) => void} act for Enter, the space bar and a click
 */
export function rove(parent, selector, act) {
  const all = () => /** @type {HTMLElement[]} */ ([...parent.querySelectorAll(selector)]);
  const of = (/** @type {Event} */ event) =>
    /** @type {HTMLElement|null} */ (/** @type {Element} */ (event.target).closest(selector));
  parent.addEventListener("click", (event) => {
    const child = of(event);
    if (child) act(child);
  });
  parent.addEventListener("focusin", (event) => {
    const child = of(event);
    if (child) for (const one of all()) setAttribute(one, "tabindex", one === child ? 0 : -1);
  });
  parent.addEventListener("keydown", (event) => {
    const child = of(event);
    if (!child) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      act(child);
      return;
    }
    const children = all();
    const moves = /** @type {Object<string, number>} */ ({
      ArrowDown: 1,
      ArrowRight: 1,
      ArrowUp: -1,
      ArrowLeft: -1,
      Home: -children.length,
      End: children.length,
    });
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const index = children.indexOf(child) + move;
    children[Math.min(children.length - 1, Math.max(0, index))].focus();
  });
}

/**
 * Make the first child a tab stop if none is.
 * @param {HTMLElement} parent
 * @param {string} selector
 */
export function ensureTabStop(parent, selector) {
  if (parent.querySelector(`${selector}[tabindex="0"]`)) return;
  const first = parent.querySelector(selector);
  if (first) setAttribute(first, "tabindex", 0);
}
