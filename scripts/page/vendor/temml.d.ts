// The part of Temml that the page uses.

declare const temml: { render(source: string, place: Element, options: object): void };
export default temml;
