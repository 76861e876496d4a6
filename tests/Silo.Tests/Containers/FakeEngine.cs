using GpuTasks.Containers;
using GpuTasks.Nodes;

namespace GpuTasks.Tests.Containers;

/// <summary>An engine in memory. It starts nothing: a started container runs until it is killed.</summary>
internal sealed class FakeEngine : IContainerEngine
{
    private readonly Lock gate = new();
    private readonly Dictionary<string, ContainerInfo> containers = new(StringComparer.Ordinal);

    public EngineInfo Info { get; set; } = new(new Version(1, 41), "fake", 4, LiveRestore: true, "runc");

    public Dictionary<string, ImageInfo> Images { get; } = new(StringComparer.Ordinal)
    {
        [TestDocker.EchoImage] = new("sha256:echo", ["/echo"], [], [], "", "linux"),
    };

    /// <summary>Thrown by the next calls of that name, once each.</summary>
    public Dictionary<string, Queue<EngineException>> Failures { get; } = [];

    /// <summary>Until it completes, no container is found or missed.</summary>
    public Task Finding { get; set; } = Task.CompletedTask;

    public List<ContainerPlan> Plans { get; } = [];

    public int Pulls { get; private set; }

    /// <summary>What a registry gives out, and to which login alone; null for everybody.</summary>
    public Dictionary<string, (ImageInfo Image, RegistryLogin? Login)> Registry { get; } = new(StringComparer.Ordinal);

    /// <summary>Ids of images that containers are made of.</summary>
    public HashSet<string> ImagesInUse { get; } = [];

    /// <summary>Puts a running container there.</summary>
    public void Add(string id, string name, string node)
    {
        lock (gate)
        {
            containers[name] = new ContainerInfo(id, name, ContainerState.Running, new Dictionary<string, string> { [Labels.Node] = node, [Labels.Instance] = name });
        }
    }

    public Task<EngineInfo> GetInfoAsync(CancellationToken cancellationToken) => Do("info", () => Info);

    public Task<ImageInfo?> FindImageAsync(string image, CancellationToken cancellationToken) => Do("image", () => Images.GetValueOrDefault(image) ?? Images.Values.FirstOrDefault(found => found.Id == image));

    public Task PullImageAsync(string image, RegistryLogin? login, Action<PullProgress> progress, TimeSpan timeout, CancellationToken cancellationToken) => Do<bool>("pull", () =>
    {
        Pulls++;
        if (!Registry.TryGetValue(image, out var offered) || (offered.Login is not null && offered.Login != login))
        {
            throw new EngineException(EngineFault.ImageMissing, $"fake registry has no '{image}'");
        }

        Images[image] = offered.Image;
        return true;
    });

    public Task<bool> RemoveImageAsync(string image, CancellationToken cancellationToken) => Do("remove image", () =>
        !(Images.TryGetValue(image, out var found) && (ImagesInUse.Contains(found.Id) || Plans.Exists(plan => plan.Image == found.Id && containers.ContainsKey(plan.Name)))) && (Images.Remove(image) || true));

    public Task CreateAsync(ContainerPlan plan, CancellationToken cancellationToken) => Do("create", () =>
    {
        if (!Images.Values.Any(image => image.Id == plan.Image) && !Images.ContainsKey(plan.Image))
        {
            throw new EngineException(EngineFault.ImageMissing, $"No such image: {plan.Image}");
        }

        if (!containers.TryAdd(plan.Name, new ContainerInfo($"id-{plan.Name}", plan.Name, ContainerState.Created, plan.Labels.ToDictionary())))
        {
            throw new EngineException(EngineFault.Conflict, $"The name {plan.Name} is taken.");
        }

        Plans.Add(plan);
        return true;
    });

    public Task StartAsync(string name, CancellationToken cancellationToken) => Do("start", () =>
    {
        var found = containers.GetValueOrDefault(name) ?? throw new EngineException(EngineFault.NotFound, $"No such container: {name}");
        containers[name] = found with { State = ContainerState.Running };
        return true;
    });

    public Task KillAsync(string name, CancellationToken cancellationToken) => Do("kill", () =>
    {
        if (containers.GetValueOrDefault(name) is { State: ContainerState.Running } found)
        {
            containers[name] = found with { State = ContainerState.Exited, ExitCode = 137 };
        }

        return true;
    });

    public Task RemoveAsync(string name, CancellationToken cancellationToken) => Do("remove", () =>
        containers.Remove(containers.Values.FirstOrDefault(found => found.Name == name || found.Id == name)?.Name ?? ""));

    public async Task<ContainerInfo?> FindAsync(string name, bool measure, CancellationToken cancellationToken)
    {
        await Finding.WaitAsync(cancellationToken);
        return await Do("find", () => containers.GetValueOrDefault(name) is { } found ? found with { WrittenBytes = measure ? 0 : null } : null);
    }

    public Task<IReadOnlyList<ContainerInfo>> ListAsync(string label, string value, CancellationToken cancellationToken) => Do("list", () =>
        (IReadOnlyList<ContainerInfo>)[.. containers.Values.Where(found => found.Labels.GetValueOrDefault(label) == value)]);

    private Task<T> Do<T>(string what, Func<T> action)
    {
        lock (gate)
        {
            if (Failures.TryGetValue(what, out var queue) && queue.TryDequeue(out var failure))
            {
                return Task.FromException<T>(failure);
            }

            try
            {
                return Task.FromResult(action());
            }
            catch (EngineException e)
            {
                return Task.FromException<T>(e);
            }
        }
    }
}
