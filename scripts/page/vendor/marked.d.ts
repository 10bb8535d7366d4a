// The part of marked that the page uses, as far as the page knows it.

export interface Token {
  type: string;
  raw: string;
  [field: string]: any;
}

export interface Extension {
  name: string;
  level: "block" | "inline";
  start(source: string): number | undefined;
  tokenizer(source: string): Token | undefined;
}

export class Marked {
  constructor(...options: ({ gfm: boolean } | { extensions: Extension[] })[]);
  defaults: object;
}

export class Lexer {
  constructor(options: object);
  tokens: { links: Record<string, object> };
  lex(source: string): Token[];
}
