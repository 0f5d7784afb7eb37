"""The sources of programs that resolve names, each by another library.

All of them take names and say a line for each: the name, then its addresses, or "!" and why there are none.
With ``WATCH`` set they go on for ever.
"""

from __future__ import annotations

#: getaddrinfo() of the C library that it is linked to.
C = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void ask(const char *name) {
  struct addrinfo hints, *found, *each;
  char text[INET6_ADDRSTRLEN];
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  int fault = getaddrinfo(name, "80", &hints, &found);
  printf("%s", name);
  if (fault)
    printf(" ! %s", fault == EAI_NONAME ? "NONAME" : fault == EAI_AGAIN ? "AGAIN" : gai_strerror(fault));
  else
    for (each = found; each; each = each->ai_next) {
      void *at = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                                            : (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
      printf(" %s", inet_ntop(each->ai_family, at, text, sizeof text));
    }
  printf("\n");
  fflush(stdout);
}

int main(int count, char **words) {
  do {
    for (int i = 1; i < count; i++) ask(words[i]);
  } while (getenv("WATCH") && !usleep(200000));
}
"""
GO = """package main

import ("fmt"; "net"; "os"; "strings"; "time")

func main() {
  for {
    for _, name := range os.Args[1:] {
      if found, err := net.LookupHost(name); err != nil {
        why, _ := err.(*net.DNSError)
        if why != nil && why.IsNotFound { fmt.Println(name, "! NONAME") } else { fmt.Println(name, "!", err) }
      } else {
        fmt.Println(name, strings.Join(found, " "))
      }
    }
    if os.Getenv("WATCH") == "" { return }
    time.Sleep(200 * time.Millisecond)
  }
}
"""
#: dns.lookup() is getaddrinfo(), dns.resolve4() is c-ares.
NODE = """const dns = require('dns').promises;
const find = {
  lookup: async (name) => (await dns.lookup(name, {all: true})).map((each) => each.address),
  cares: (name) => dns.resolve4(name),
}[process.argv[2]];
(async () => {
  do {
    for (const name of process.argv.slice(3)) {
      try { console.log(name, (await find(name)).join(' ')); }
      catch (e) { console.log(name, '!', ['ENOTFOUND', 'ENODATA'].includes(e.code) ? 'NONAME' : e.code); }
    }
    if (process.env.WATCH) await new Promise((done) => setTimeout(done, 200));
  } while (process.env.WATCH);
})();
"""
#: It does not tell "there is none" from "try again".
JAVA = """import java.net.InetAddress;

public class Ask {
  public static void main(String[] names) throws Exception {
    do {
      for (var name : names) {
        var line = new StringBuilder(name);
        try {
          for (var each : InetAddress.getAllByName(name)) line.append(" ").append(each.getHostAddress());
        } catch (java.net.UnknownHostException e) { line.append(" ! NONE"); }
        System.out.println(line);
      }
      Thread.sleep(System.getenv("WATCH") == null ? 0 : 200);
    } while (System.getenv("WATCH") != null);
  }
}
"""
#: Its output is the server's address, then those of the name.
NSLOOKUP = """#!/bin/sh
while :; do
  for name; do
    said=$(nslookup "$name" 2>&1)
    found=$(echo "$said" | sed '1,/^$/d' | sed -n 's/^Address[^:]*: *//p' | tr '\\n' ' ')
    case $said in *NXDOMAIN*) none="! NONAME" ;; *) none="! AGAIN" ;; esac
    echo "$name ${found:-$none}"
  done
  test "$WATCH" || exit 0
  usleep 200000
done
"""
