// Two functions that call each other, in a module.
// ends: stack
const a = () => b() + 1,
    b = () => a() + 1;
export const handle = () => a();
