using System.Net;
using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using GpuTasks.Webhooks;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using Orleans.Configuration;

namespace GpuTasks.Hosting;

/// <summary>Puts a silo together from its parts; shared by the program and by tests that run silos of their own.</summary>
public static class SiloComposition
{
    /// <summary>The grains and what they need beyond a store: placement of nodes, dispatcher and retention options, the starter of sweeper and purger.</summary>
    /// <param name="builder">Silo.</param>
    /// <param name="configuration">Configuration of the process.</param>
    /// <param name="host">Roles of the process; all if left out.</param>
    public static ISiloBuilder AddGpuTasksGrains(this ISiloBuilder builder, IConfiguration configuration, HostOptions? host = null)
    {
        builder.Services.AddPlacementDirector<PinnedToNode, PinnedToNodeDirector>();
        builder.Services.AddOptions<DispatcherOptions>()
            .Bind(configuration.GetSection(DispatcherOptions.Section))
            .ValidateDataAnnotations()
            .ValidateOnStart();
        builder.Services.AddKeyedSingleton<TimeProvider>(TimeProviderNames.Grains, (_, _) => new SteadyClock(TimeProvider.System));
        builder.Services.AddSingleton(new SiloStart(TimeProvider.System));
        builder.Services.AddOptions<WebhookOptions>()
            .Bind(configuration.GetSection(WebhookOptions.Section))
            .ValidateDataAnnotations()
            .ValidateOnStart();
        builder.Services.TryAddSingleton<IWebhookSender>(services => new WebhookSender(
            services.GetRequiredService<IOptions<WebhookOptions>>(), services.GetRequiredKeyedService<TimeProvider>(TimeProviderNames.Grains)));
        builder.Services.TryAddSingleton<DestinationCaller>();
        builder.Services.TryAddSingleton<FreshTasks>();
        // A task that waits needs no activation, and one that was only looked at has no reason to keep it.
        builder.Configure<GrainCollectionOptions>(options =>
        {
            options.CollectionQuantum = TimeSpan.FromSeconds(5);
            options.ClassSpecificCollectionAge[typeof(TaskGrain).FullName!] = TimeSpan.FromSeconds(10);
        });
        builder.Services.AddOptions<RetentionOptions>()
            .Bind(configuration.GetSection(RetentionOptions.Section))
            .ValidateDataAnnotations()
            .ValidateOnStart();
        if (host is null || host.Has(HostOptions.ControlRole))
        {
            builder.Services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, SweeperStarter>());
        }
        else
        {
            // A node that freezes or is cut off must not take tasks, queues or the region with it.
            builder.Services.PostConfigure<GrainTypeOptions>(types => types.Classes.RemoveWhere(
                type => type.Assembly == typeof(NodeGrain).Assembly && type != typeof(NodeGrain)));
        }

        return builder;
    }

    /// <summary>Who this silo is and how others reach it.</summary>
    public static ISiloBuilder UseGpuTasksCluster(this ISiloBuilder builder, HostOptions host, StoreOptions store)
    {
        builder.Configure<SiloOptions>(options => options.SiloName = host.Name);
        builder.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = (host.ClusterId, host.ClusterId));
        // The look-up of a grain may hang at a silo that has just died, and every call to that grain with it: it is asked anew soon.
        builder.Configure<SiloMessagingOptions>(options => options.PlacementTimeout = TimeSpan.FromSeconds(5));
        var address = IPAddress.Parse(host.SiloAddress);
        var siloPort = FreePort(host.SiloPort, address);
        // Clients of a cluster go to control silos, which know every grain.
        var clientPort = host.Has(HostOptions.ControlRole) ? FreePort(host.ClientPort, address) : 0;
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

                // Who joins must reach every member. One that died with all who could have voted it out is passed over once it
                // has missed three of these, so that a cluster that was down as a whole is not held up by a machine that is gone.
                options.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(5);

                // A silo that was started again declares its former self dead when it reads the table. Where many start at once that write can
                // lose against another, and until the next reading nobody can join, for the former self answers no one. The default is 60 s.
                options.TableRefreshTimeout = TimeSpan.FromSeconds(5);
            });
            builder.Services.AddHostedService<MembershipWatch>();
        }
        else
        {
            builder.UseLocalhostClustering(siloPort, clientPort, serviceId: host.ClusterId, clusterId: host.ClusterId);
        }

        return builder;
    }

    /// <summary>How a gateway that stands alone finds the cluster: its members are in the store.</summary>
    /// <exception cref="OptionsValidationException">The store's options are wrong, or the members are not in the store.</exception>
    public static IClientBuilder UseGpuTasksCluster(this IClientBuilder builder, HostOptions host, StoreOptions store)
    {
        var faults = store.FindFaults().ToList();
        if (!store.UseStoreClustering)
        {
            faults.Add($"A gateway that stands alone finds the cluster in its store; set {nameof(StoreOptions.UseStoreClustering)} true, as in the silos.");
        }

        if (faults.Count > 0)
        {
            throw new OptionsValidationException(nameof(StoreOptions), typeof(StoreOptions), faults);
        }

        builder.Services.AddSingleton(_ => new StoreDatabase(store));
        builder.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = (host.ClusterId, host.ClusterId));
        builder.UseAdoNetClustering(o => o.Configure<StoreDatabase>((clustering, database) =>
        {
            clustering.Invariant = database.Invariant;
            clustering.DataSource = database.Members;
        }));

        // A silo that joins takes its part of the callers within seconds; the default is a minute.
        builder.Configure<Orleans.Configuration.GatewayOptions>(options => options.GatewayListRefreshPeriod = TimeSpan.FromSeconds(5));

        // It may start before its cluster, and listens once it is connected.
        builder.UseConnectionRetryFilter(async (_, cancellationToken) =>
        {
            await Task.Delay(TimeSpan.FromSeconds(1), cancellationToken);
            return true;
        });
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
