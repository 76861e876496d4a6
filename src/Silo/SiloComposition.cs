using System.Net;
using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Orleans.Configuration;

namespace GpuTasks.Hosting;

/// <summary>Puts a silo together from its parts; shared by the program and by tests that run silos of their own.</summary>
public static class SiloComposition
{
    /// <summary>The grains and what they need beyond a store: placement of nodes, dispatcher and retention options, the starter of sweeper and purger.</summary>
    public static ISiloBuilder AddGpuTasksGrains(this ISiloBuilder builder, IConfiguration configuration)
    {
        builder.Services.AddPlacementDirector<PinnedToNode, PinnedToNodeDirector>();
        builder.Services.AddOptions<DispatcherOptions>()
            .Bind(configuration.GetSection(DispatcherOptions.Section))
            .ValidateDataAnnotations()
            .ValidateOnStart();
        builder.Services.TryAddSingleton<DestinationCaller>();
        builder.Services.AddOptions<RetentionOptions>()
            .Bind(configuration.GetSection(RetentionOptions.Section))
            .ValidateDataAnnotations()
            .ValidateOnStart();
        builder.Services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, SweeperStarter>());
        return builder;
    }

    /// <summary>Who this silo is and how others reach it.</summary>
    public static ISiloBuilder UseGpuTasksCluster(this ISiloBuilder builder, HostOptions host, StoreOptions store)
    {
        builder.Configure<SiloOptions>(options => options.SiloName = host.Name);
        builder.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = (host.ClusterId, host.ClusterId));
        var address = IPAddress.Parse(host.SiloAddress);
        var siloPort = FreePort(host.SiloPort, address);
        var clientPort = FreePort(host.ClientPort, address);
        if (store.UseStoreClustering)
        {
            builder.ConfigureEndpoints(address, siloPort, clientPort, listenOnAnyHostAddress: false);
            // A frozen silo is found within seconds only if the longest probe is set too: it defaults to four times the probe.
            builder.Configure<ClusterMembershipOptions>(options =>
            {
                options.ProbeTimeout = TimeSpan.FromSeconds(1);
                options.MaxProbeTimeout = TimeSpan.FromSeconds(1);
                options.NumMissedProbesLimit = 2;
                options.NumVotesForDeathDeclaration = 2;
            });
        }
        else
        {
            builder.UseLocalhostClustering(siloPort, clientPort, serviceId: host.ClusterId, clusterId: host.ClusterId);
        }

        return builder;
    }

    // Several silos on one machine must not fight over fixed ports.
    private static int FreePort(int wanted, IPAddress address)
    {
        if (wanted != 0)
        {
            return wanted;
        }

        using var probe = new System.Net.Sockets.TcpListener(address, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
