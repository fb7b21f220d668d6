import './github/syncs/issues.js';
