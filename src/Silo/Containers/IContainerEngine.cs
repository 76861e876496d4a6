using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>What went wrong with the engine, as far as it decides about what to do next.</summary>
internal enum EngineFault
{
    /// <summary>The engine did what it does, and failed for a reason of its own.</summary>
    Failed = 0,

    /// <summary>The engine could not be reached or did not answer in time; the call may have had an effect.</summary>
    Unreachable = 1,

    /// <summary>No such container.</summary>
    NotFound = 2,

    /// <summary>The name is taken by another container.</summary>
    Conflict = 3,

    /// <summary>The image is not here and cannot be had.</summary>
    ImageMissing = 4,

    /// <summary>The image says something that cannot be started, such as an unknown user.</summary>
    ImageCannotStart = 5,

    /// <summary>The cards could not be handed over.</summary>
    CardHandOver = 6,
}

/// <summary>A call to the engine failed.</summary>
internal sealed class EngineException(EngineFault fault, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Class of the failure.</summary>
    public EngineFault Fault { get; } = fault;
}

/// <summary>The engine itself.</summary>
/// <param name="ApiVersion">Newest API it speaks.</param>
/// <param name="Version">Product version.</param>
/// <param name="Processors">Processors it can give.</param>
/// <param name="LiveRestore">Whether containers outlive its restart.</param>
/// <param name="DefaultRuntime">Runtime of containers that name none.</param>
internal sealed record EngineInfo(Version ApiVersion, string Version, int Processors, bool LiveRestore, string DefaultRuntime)
{
    /// <summary>Devices that the engine itself can hand over (CDI), by their full names; empty before API 1.50.</summary>
    public IReadOnlySet<string> CdiDevices { get; init; } = new HashSet<string>();

    /// <summary>Where it keeps images; on another machine than ours if it is not here.</summary>
    public string DataRoot { get; init; } = "";
}

/// <summary>An image as far as starting it needs to know.</summary>
internal sealed record ImageInfo(string Id, IReadOnlyList<string> Entrypoint, IReadOnlyList<string> Command, IReadOnlyList<string> Environment, string User, string Os)
{
    /// <summary>The names by digest that registries know it by.</summary>
    public IReadOnlyList<string> Digests { get; init; } = [];
}

/// <summary>Name and password at an image's registry.</summary>
internal sealed record RegistryLogin(string User, string Password);

/// <summary>Where a container stands.</summary>
internal enum ContainerState
{
    /// <summary>Made, never started.</summary>
    Created = 0,

    /// <summary>Its first process lives; also while frozen.</summary>
    Running = 1,

    /// <summary>Its first process has ended.</summary>
    Exited = 2,
}

/// <summary>A container as the engine sees it.</summary>
internal sealed record ContainerInfo(string Id, string Name, ContainerState State, IReadOnlyDictionary<string, string> Labels)
{
    /// <summary>Exit code of the first process; inspect only.</summary>
    public long ExitCode { get; init; }

    /// <summary>True when anything in it was killed for memory; inspect only.</summary>
    public bool OutOfMemory { get; init; }

    /// <summary>Bytes written to its root, where asked for.</summary>
    public long? WrittenBytes { get; init; }
}

/// <summary>Everything about a container that is to be made. Hardening that never varies is the adapter's.</summary>
internal sealed record ContainerPlan
{
    public required string Name { get; init; }

    public required string Image { get; init; }

    public required IReadOnlyList<string> Entrypoint { get; init; }

    public required IReadOnlyList<string> Command { get; init; }

    public required IReadOnlyList<string> Environment { get; init; }

    public required IReadOnlyDictionary<string, string> Labels { get; init; }

    /// <summary>Binds as <c>source:target[:ro]</c>.</summary>
    public required IReadOnlyList<string> Binds { get; init; }

    public required long MemoryBytes { get; init; }

    public required long NanoCpus { get; init; }

    public required long SharedMemoryBytes { get; init; }

    public required int PidsLimit { get; init; }

    /// <summary><c>none</c>, or the name of an egress network.</summary>
    public required string Network { get; init; }

    public required bool ReadOnlyRoot { get; init; }

    /// <summary>Real cards and how they get in.</summary>
    public HandOver Cards { get; init; } = HandOver.Nothing;
}

/// <summary>The container engine. Every method throws <see cref="EngineException"/> and nothing else, besides cancellation.</summary>
internal interface IContainerEngine
{
    /// <summary>Asks the engine about itself.</summary>
    Task<EngineInfo> GetInfoAsync(CancellationToken cancellationToken);

    /// <summary>An image that is here, or null.</summary>
    Task<ImageInfo?> FindImageAsync(string image, CancellationToken cancellationToken);

    /// <summary>Fetches an image from its registry, telling how far it has come.</summary>
    Task PullImageAsync(string image, RegistryLogin? login, Action<PullProgress> progress, TimeSpan timeout, CancellationToken cancellationToken);

    /// <summary>Takes a name from an image, and with its last name the image itself; one that is gone stays gone.</summary>
    /// <returns>False if a container is made of it.</returns>
    Task<bool> RemoveImageAsync(string image, CancellationToken cancellationToken);

    /// <summary>Makes a container. The name is its identity: a taken one is <see cref="EngineFault.Conflict"/>.</summary>
    Task CreateAsync(ContainerPlan plan, CancellationToken cancellationToken);

    /// <summary>Starts a container; starting a running one does nothing.</summary>
    Task StartAsync(string name, CancellationToken cancellationToken);

    /// <summary>Kills a container; one that is gone or ended stays so.</summary>
    Task KillAsync(string name, CancellationToken cancellationToken);

    /// <summary>Removes a container with its anonymous volumes, killing it if it must; one that is gone stays gone.</summary>
    Task RemoveAsync(string name, CancellationToken cancellationToken);

    /// <summary>A container, or null.</summary>
    Task<ContainerInfo?> FindAsync(string name, bool measure, CancellationToken cancellationToken);

    /// <summary>Every container with a label, ended ones too.</summary>
    Task<IReadOnlyList<ContainerInfo>> ListAsync(string label, string value, CancellationToken cancellationToken);
}
