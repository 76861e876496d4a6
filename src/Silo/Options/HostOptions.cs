using System.ComponentModel.DataAnnotations;
using System.Net;

namespace GpuTasks.Hosting;

/// <summary>What one silo process is and where it listens. Configuration section <c>GpuTasks</c>.</summary>
public sealed class HostOptions : IValidatableObject
{
    /// <summary>Configuration section.</summary>
    public const string Section = "GpuTasks";

    /// <summary>Hosts all grains: tasks, functions, queues, the region.</summary>
    public const string ControlRole = "control";

    /// <summary>Adds the node agent: this machine's containers and cards. Without <c>control</c> the silo hosts no other grain, so that its loss takes nothing else away.</summary>
    public const string NodeRole = "node";

    /// <summary>Maps the HTTP endpoints in this process. Alone, the process is no silo but a client of the cluster.</summary>
    public const string GatewayRole = "gateway";

    /// <summary>Roles, separated by commas: <c>control</c>, <c>node</c>, <c>gateway</c>. Default: all three in one process.</summary>
    [Required]
    public string Roles { get; set; } = $"{ControlRole},{NodeRole},{GatewayRole}";

    /// <summary>Folder of everything that must outlive the process. Default <c>.gputasks</c> in the working folder.</summary>
    [Required]
    public string DataDirectory { get; set; } = ".gputasks";

    /// <summary>Name of this silo, and of its node if it has that role: unique in the cluster. Default: the machine's name.</summary>
    [Required]
    public string Name { get; set; } = Environment.MachineName;

    /// <summary>Region this cluster serves, as in ARNs. Default <c>local-1</c>.</summary>
    [Required, RegularExpression("[a-z0-9-]{1,32}")]
    public string Region { get; set; } = "local-1";

    /// <summary>Address of the HTTP endpoints. Default loopback.</summary>
    [Required]
    public string HttpAddress { get; set; } = "127.0.0.1";

    /// <summary>Port of the HTTP endpoints: 0 (any free one) to 65,535, default 9080.</summary>
    [Range(0, 65_535)]
    public int HttpPort { get; set; } = 9080;

    /// <summary>Address that other silos reach this one at. Default loopback.</summary>
    [Required]
    public string SiloAddress { get; set; } = "127.0.0.1";

    /// <summary>Port for other silos: 0 (any free one) to 65,535, default 0.</summary>
    [Range(0, 65_535)]
    public int SiloPort { get; set; }

    /// <summary>Port for Orleans clients: 0 (any free one) to 65,535, default 0.</summary>
    [Range(0, 65_535)]
    public int ClientPort { get; set; }

    /// <summary>Name of the cluster; all its processes share it. Default <c>gputasks</c>.</summary>
    [Required]
    public string ClusterId { get; set; } = "gputasks";

    /// <summary>True if this process is a member of the cluster; false for a gateway that stands alone.</summary>
    public bool IsSilo => Has(ControlRole) || Has(NodeRole);

    /// <summary>True if this process has the role.</summary>
    public bool Has(string role) => Roles.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Contains(role);

    /// <inheritdoc />
    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        foreach (var role in Roles.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (role is not (ControlRole or NodeRole or GatewayRole))
            {
                yield return new ValidationResult($"Roles names '{role}'; known are {ControlRole}, {NodeRole}, {GatewayRole}.");
            }
        }

        if (!Has(ControlRole) && !Has(NodeRole) && !Has(GatewayRole))
        {
            yield return new ValidationResult($"Roles names nothing; known are {ControlRole}, {NodeRole}, {GatewayRole}.");
        }

        foreach (var (name, address) in new[] { (nameof(HttpAddress), HttpAddress), (nameof(SiloAddress), SiloAddress) })
        {
            if (!IPAddress.TryParse(address, out _))
            {
                yield return new ValidationResult($"{name} is '{address}'; an IP address is expected.");
            }
        }
    }
}
