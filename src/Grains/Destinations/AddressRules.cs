using System.Net;
using System.Net.Sockets;

namespace GpuTasks.Destinations;

/// <summary>
/// Which addresses webhooks may connect to: public ones, and what the operator allows. To be asked of the address that is
/// connected to, never of a name. Pure.
/// </summary>
/// <param name="allowed">Ranges that are permitted whatever they are.</param>
public sealed class AddressRules(IEnumerable<IPNetwork> allowed)
{
    // The IANA registries of special-purpose addresses, and 168.63.129.16, which a large cloud serves its machines' metadata from.
    private static readonly IPNetwork[] NotPublic =
    [
        .. new[]
        {
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
            "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
            "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        }.Select(IPNetwork.Parse),
    ];

    // All of the sixth version that is given out for public use; loopback, link-local, unique local and multicast lie elsewhere.
    private static readonly IPNetwork GlobalUnicast = IPNetwork.Parse("2000::/3");

    // A gateway turns these into the address of the fourth version in their last bytes.
    private static readonly IPNetwork Translated = IPNetwork.Parse("64:ff9b::/96");

    private readonly IPNetwork[] ranges = [.. allowed];

    /// <summary>Whether it may be connected to.</summary>
    public bool Permits(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6)
        {
            address = address.MapToIPv4();
        }

        // A scope id makes no other address of it.
        address = new IPAddress(address.GetAddressBytes());
        if (ranges.Any(range => range.Contains(address)))
        {
            return true;
        }

        if (address.AddressFamily == AddressFamily.InterNetworkV6)
        {
            return Translated.Contains(address)
                ? Permits(new IPAddress(address.GetAddressBytes().AsSpan(12)))
                : GlobalUnicast.Contains(address) && !IsSpecial(address);
        }

        return address.AddressFamily == AddressFamily.InterNetwork && !IsSpecial(address);
    }

    private static bool IsSpecial(IPAddress address) => NotPublic.Any(range => range.Contains(address));
}
