using GpuTasks.Cards;
using GpuTasks.Nodes;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace GpuTasks.Containers;

/// <summary>Makes a silo a node.</summary>
internal static class NodeAgentRegistration
{
    /// <summary>
    /// Adds the node agent, its engine and its cards. Options come from section <c>Node</c> and are checked at start.
    /// Call it after Orleans was added, so that the silo runs before the agent reports.
    /// </summary>
    public static IServiceCollection AddNodeAgent(this IServiceCollection services, IConfiguration configuration)
    {
        services.AddOptions<NodeOptions>()
            .Bind(configuration.GetSection(NodeOptions.Section))
            .ValidateOnStart();
        services.AddSingleton<IValidateOptions<NodeOptions>, NodeOptionsValidator>();
        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<IContainerEngine>(provider => new DockerEngine(provider.GetRequiredService<IOptions<NodeOptions>>().Value.DockerHost));
        services.TryAddSingleton(CardSources.Choose);
        services.TryAddSingleton<INodeReports, GrainNodeReports>();
        services.AddSingleton<NodeAgent>();
        services.AddSingleton<INodeAgent>(provider => provider.GetRequiredService<NodeAgent>());
        services.AddHostedService(provider => provider.GetRequiredService<NodeAgent>());
        return services;
    }
}
