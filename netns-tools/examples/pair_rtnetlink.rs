//! What `pair_blocking` does, by the `rtnetlink` crate on tokio's current-thread runtime.

use std::error::Error;
use std::net::Ipv4Addr;

use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio_stream::StreamExt;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let flag = |name| std::env::args().any(|arg| arg == name);
    runtime.block_on(pair(flag("--keep")))?;
    if flag("--rss") {
        print!("{}", std::fs::read_to_string("/proc/self/status")?);
    }
    Ok(())
}

async fn pair(keep: bool) -> Result<(), Box<dyn Error>> {
    let (connection, handle, _) = new_connection()?;
    tokio::spawn(connection);
    handle.link().add(LinkVeth::new("cmp0", "cmp1").build()).execute().await?;
    let mut found = handle.link().get().match_name("cmp0").execute();
    let index = found.try_next().await?.ok_or("the pair is gone")?.header.index;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
    handle.address().add(index, Ipv4Addr::new(10, 9, 8, 1).into(), 24).execute().await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::new(10, 9, 9, 0), 24)
        .gateway(Ipv4Addr::new(10, 9, 8, 2))
        .build();
    handle.route().add(route).execute().await?;
    if !keep {
        handle.link().del(index).execute().await?;
    }
    Ok(())
}
