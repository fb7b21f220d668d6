// The module that a dependency gets for a module of Node that reaches files, processes or the network: it can be
// loaded, and whatever is called in it fails.
'use strict';
const SENTENCE = 'a sync script has no files, processes or network of its own; use nango.get and the other requests';

function refuse() {
    throw new Error(SENTENCE);
}

const refused = new Proxy(refuse, {
    get: (target, name) => (name === 'prototype' ? target.prototype : typeof name === 'symbol' ? undefined : refused),
    construct: refuse,
    set: () => true,
    defineProperty: () => true,
});

module.exports = refused;
