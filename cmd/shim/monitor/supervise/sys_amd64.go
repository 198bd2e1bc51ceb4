package supervise

const sysRenameat2 = 316
