// Package network is the built-in network: a bridge, one veth pair per pod, addresses of one IPv4 and one IPv6 subnet,
// masquerade for what leaves them, and host ports, all made in process through netlink and nftables.
//
// It owns the links on its bridge whose names it made, its two nftables tables (families inet and bridge, one name)
// and the addresses of its subnets. It never runs a program, never writes another table's rules, never opens the
// host's firewall (Check names one that is in the way) and never makes or removes a namespace. Several daemons live
// side by side on one machine when bridge, subnets and table differ.
//
// # Life of a Network
//
// New binds it to the network namespace it is called in and touches nothing. Recover, called once, takes over the pods
// that are recorded and removes what belongs to nobody. Then Add and Remove run concurrently, each a step.Flow whose
// undos find everything from the sandbox's id. From Recover on, a watcher restores the tables when somebody flushes
// them. Close ends the watcher and leaves every pod connected; Destroy also takes bridge and tables away.
//
// The truth about addresses, host ports and nftables elements is one map in memory, derived from the records at
// Recover. The tables are a pure function of it: whatever goes wrong with an incremental change is answered by
// replacing both tables in one transaction.
//
// # What the tables do
//
// Host ports are map elements, not rules: (address, protocol, port) or (protocol, port) to (pod, port), consulted for
// packets to any local address in prerouting and output. Packets that were redirected back onto the bridge are
// masqueraded, so that a pod reaches its own and its neighbours' host ports. 127.0.0.1 works because the bridge has
// route_localnet; what arrives on the bridge from or for 127.0.0.0/8 is therefore dropped before conntrack
// (CVE-2020-8558). IPv6 has no such setting: [::1] reaches no pod. The bridge table lets a pod send only from its own
// MAC, IPv4, IPv6 and link-local address, and no router advertisement or redirect (CVE-2020-10749).
package network
