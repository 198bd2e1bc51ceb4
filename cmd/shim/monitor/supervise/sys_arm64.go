package supervise

const sysRenameat2 = 276
