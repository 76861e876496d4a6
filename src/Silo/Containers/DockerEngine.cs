using System.Collections.ObjectModel;
using System.Net;
using System.Net.Sockets;
using Docker.DotNet;
using Docker.DotNet.Models;
using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>The engine of Docker. The one home of Docker.DotNet.</summary>
internal sealed class DockerEngine : IContainerEngine, IDisposable
{
    // The API version is not pinned: an engine then uses its own newest, and old and new engines both work.
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan StartTimeout = TimeSpan.FromMinutes(2);

    private static readonly string[] HandOverWords =
        ["device driver", "nvidia", "cdi", "unresolvable", "device_requests", "gpu"];

    private static readonly string[] ImageWords =
        ["unable to find user", "unable to find group", "no matching entries in passwd", "no matching entries in group", "working directory", "chdir to cwd"];

    private static readonly ReadOnlyDictionary<string, string> NoLabels = ReadOnlyDictionary<string, string>.Empty;
    private readonly DockerClient client;

    public DockerEngine(string endpoint) => client = new DockerClientBuilder()
        .WithEndpoint(new Uri(endpoint))
        .WithTimeout(Timeout.InfiniteTimeSpan) // Each call sets its own.
        .Build();

    public void Dispose() => client.Dispose();

    public async Task<EngineInfo> GetInfoAsync(CancellationToken cancellationToken)
    {
        var version = await CallAsync(token => client.System.GetVersionAsync(token), CallTimeout, cancellationToken);
        var info = await CallAsync(token => client.System.GetSystemInfoAsync(token), CallTimeout, cancellationToken);
        return new EngineInfo(
            System.Version.TryParse(version.APIVersion, out var api) ? api : new System.Version(0, 0),
            version.Version,
            (int)Math.Max(1, info.NCPU),
            info.LiveRestoreEnabled,
            info.DefaultRuntime ?? "")
        {
            DataRoot = info.DockerRootDir ?? "",
            CdiDevices = (info.DiscoveredDevices ?? []).Where(device => device.Source == "cdi").Select(device => device.ID).ToHashSet(StringComparer.Ordinal),
        };
    }

    public async Task<ImageInfo?> FindImageAsync(string image, CancellationToken cancellationToken)
    {
        try
        {
            var found = await CallAsync(token => client.Images.InspectImageAsync(image, token), CallTimeout, cancellationToken);
            return new ImageInfo(
                found.ID,
                [.. found.Config?.Entrypoint ?? []],
                [.. found.Config?.Cmd ?? []],
                [.. found.Config?.Env ?? []],
                found.Config?.User ?? "",
                found.Os ?? "")
            {
                Digests = [.. found.RepoDigests ?? []],
            };
        }
        catch (EngineException e) when (e.Fault is EngineFault.ImageMissing or EngineFault.NotFound)
        {
            return null;
        }
    }

    public async Task PullImageAsync(string image, RegistryLogin? login, Action<PullProgress> progress, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var (repository, tag) = SplitReference(image);
        var auth = login is null
            ? new AuthConfig()
            : new AuthConfig { Username = login.User, Password = login.Password, ServerAddress = RegistryOf(repository) };
        var steps = new PullSteps(progress);
        try
        {
            await CallAsync(
                async token =>
                {
                    await client.Images.CreateImageAsync(new ImagesCreateParameters { FromImage = repository, Tag = tag }, auth, steps, token);
                    return true;
                },
                timeout,
                cancellationToken);
        }
        catch (EngineException e) when (e.Fault != EngineFault.Unreachable)
        {
            throw new EngineException(EngineFault.ImageMissing, e.Message, e);
        }

        if (steps.Error is { } message)
        {
            throw new EngineException(EngineFault.ImageMissing, message);
        }
    }

    public async Task<bool> RemoveImageAsync(string image, CancellationToken cancellationToken)
    {
        try
        {
            await CallAsync(token => client.Images.DeleteImageAsync(image, new ImageDeleteParameters { Force = false }, token), CallTimeout, cancellationToken);
            return true;
        }
        catch (EngineException e) when (e.Fault is EngineFault.ImageMissing or EngineFault.NotFound)
        {
            return true;
        }
        catch (EngineException e) when (e.Fault is EngineFault.Conflict)
        {
            return false;
        }
    }

    public async Task CreateAsync(ContainerPlan plan, CancellationToken cancellationToken)
    {
        var parameters = ParametersOf(plan);
        await CallAsync(token => client.Containers.CreateContainerAsync(parameters, token), CallTimeout, cancellationToken);
    }

    public async Task StartAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            await CallAsync(token => client.Containers.StartContainerAsync(name, new ContainerStartParameters(), token), StartTimeout, cancellationToken);
        }
        catch (EngineException e) when (e.Fault == EngineFault.Failed)
        {
            throw new EngineException(ClassifyStart(e.Message), e.Message, e);
        }
    }

    public async Task KillAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            await CallAsync(
                async token =>
                {
                    await client.Containers.KillContainerAsync(name, new ContainerKillParameters { Signal = "SIGKILL" }, token);
                    return true;
                },
                CallTimeout,
                cancellationToken);
        }
        catch (EngineException e) when (e.Fault is EngineFault.NotFound or EngineFault.Conflict)
        {
            // Gone or ended already; the engine calls killing an ended one a conflict.
        }
    }

    public async Task RemoveAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            await CallAsync(
                async token =>
                {
                    await client.Containers.RemoveContainerAsync(name, new ContainerRemoveParameters { Force = true, RemoveVolumes = true }, token);
                    return true;
                },
                CallTimeout,
                cancellationToken);
        }
        catch (EngineException e) when (e.Fault == EngineFault.NotFound)
        {
            // Gone already.
        }
    }

    public async Task<ContainerInfo?> FindAsync(string name, bool measure, CancellationToken cancellationToken)
    {
        try
        {
            var found = await CallAsync(
                token => client.Containers.InspectContainerAsync(name, new ContainerInspectParameters { IncludeSize = measure }, token),
                CallTimeout,
                cancellationToken);
            return new ContainerInfo(found.ID, found.Name.TrimStart('/'), StateOf(found.State?.Status ?? ""), found.Config?.Labels?.AsReadOnly() ?? NoLabels)
            {
                ExitCode = found.State?.ExitCode ?? 0,
                OutOfMemory = found.State?.OOMKilled ?? false,
                WrittenBytes = found.SizeRw,
            };
        }
        catch (EngineException e) when (e.Fault == EngineFault.NotFound)
        {
            return null;
        }
    }

    public async Task<IReadOnlyList<ContainerInfo>> ListAsync(string label, string value, CancellationToken cancellationToken)
    {
        var parameters = new ContainersListParameters
        {
            All = true,
            Filters = new Dictionary<string, IDictionary<string, bool>>
            {
                ["label"] = new Dictionary<string, bool> { [$"{label}={value}"] = true },
            },
        };
        var found = await CallAsync(token => client.Containers.ListContainersAsync(parameters, token), CallTimeout, cancellationToken);
        return [.. found.Select(container => new ContainerInfo(
            container.ID,
            container.Names is [var first, ..] ? first.TrimStart('/') : container.ID,
            StateOf(container.State),
            container.Labels?.AsReadOnly() ?? NoLabels))];
    }

    /// <summary>What the engine is asked to make, to the last field.</summary>
    internal static CreateContainerParameters ParametersOf(ContainerPlan plan) => new()
    {
        Name = plan.Name,
        Image = plan.Image,
        Entrypoint = [.. plan.Entrypoint],
        Cmd = [.. plan.Command],
        Env = [.. plan.Environment],
        Labels = plan.Labels.ToDictionary(),
        StopSignal = "SIGTERM", // The relay is the first process; what the image wanted is the relay's concern.
        Healthcheck = new HealthcheckConfig { Test = ["NONE"] }, // The relay checks; the engine's way starts a process each time.
        HostConfig = new HostConfig
        {
            Binds = [.. plan.Binds],
            NetworkMode = plan.Network,
            CapDrop = ["ALL"],
            // The engine's seccomp profile stays on by not being named here.
            SecurityOpt = ["no-new-privileges"],
            PidsLimit = plan.PidsLimit,
            Memory = plan.MemoryBytes,
            MemorySwap = plan.MemoryBytes,
            NanoCPUs = plan.NanoCpus,
            ShmSize = plan.SharedMemoryBytes,
            Ulimits = [new Ulimit { Name = "core", Soft = 0, Hard = 0 }],
            IpcMode = "private",
            ReadonlyRootfs = plan.ReadOnlyRoot,
            // Kernels for cards are often unpacked to /tmp, so it stays executable.
            Tmpfs = plan.ReadOnlyRoot ? new Dictionary<string, string> { ["/tmp"] = "rw,exec,nosuid,nodev,mode=1777" } : [],
            RestartPolicy = new RestartPolicy { Name = RestartPolicyKind.No },
            LogConfig = new LogConfig
            {
                Type = "json-file",
                Config = new Dictionary<string, string> { ["max-size"] = "10m", ["max-file"] = "2" },
            },
            DeviceRequests = RequestsOf(plan.Cards),
        },
    };

    private static List<DeviceRequest> RequestsOf(HandOver cards) => cards switch
    {
        { CardUuids.Count: 0 } => [],
        // Neither a count nor options: the engine refuses either beside names.
        { CdiDevices.Count: > 0 } => [new DeviceRequest { Driver = "cdi", DeviceIDs = [.. cards.CdiDevices] }],
        _ =>
        [
            new DeviceRequest
            {
                Driver = "nvidia",
                DeviceIDs = [.. cards.CardUuids],
                Capabilities = [["gpu", .. cards.Capabilities.Split(',')]],
            },
        ],
    };

    /// <summary>The name and the tag or digest of a reference; without a tag the engine would fetch them all.</summary>
    internal static (string Repository, string Tag) SplitReference(string image)
    {
        var digest = image.IndexOf('@', StringComparison.Ordinal);
        if (digest > 0)
        {
            return (image[..digest], image[(digest + 1)..]);
        }

        var colon = image.LastIndexOf(':');
        return colon > image.LastIndexOf('/') ? (image[..colon], image[(colon + 1)..]) : (image, "latest");
    }

    /// <summary>An image's name by digest at the registry of a reference, or null.</summary>
    internal static string? DigestOf(string reference, IReadOnlyList<string> digests)
    {
        var (repository, _) = SplitReference(reference);
        return digests.FirstOrDefault(digest => digest.StartsWith($"{repository}@", StringComparison.Ordinal));
    }

    /// <summary>Reads why a start failed from the engine's words, which are all it gives.</summary>
    internal static EngineFault ClassifyStart(string message)
    {
        if (ImageWords.Any(word => message.Contains(word, StringComparison.OrdinalIgnoreCase)))
        {
            return EngineFault.ImageCannotStart;
        }

        return HandOverWords.Any(word => message.Contains(word, StringComparison.OrdinalIgnoreCase))
            ? EngineFault.CardHandOver
            : EngineFault.Failed;
    }

    private static string RegistryOf(string repository)
    {
        var first = repository.Split('/')[0];
        return repository.Contains('/', StringComparison.Ordinal)
            && (first.Contains('.', StringComparison.Ordinal) || first.Contains(':', StringComparison.Ordinal) || first == "localhost")
            ? first
            : "https://index.docker.io/v1/";
    }

    private static ContainerState StateOf(string status) => status switch
    {
        "created" => ContainerState.Created,
        "exited" or "dead" or "removing" => ContainerState.Exited,
        _ => ContainerState.Running,
    };

    private static async Task<T> CallAsync<T>(Func<CancellationToken, Task<T>> call, TimeSpan timeout, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeout);
        try
        {
            return await call(limit.Token);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw;
        }
        catch (OperationCanceledException e)
        {
            throw new EngineException(EngineFault.Unreachable, $"The engine did not answer within {timeout.TotalSeconds:0} s.", e);
        }
        catch (DockerContainerNotFoundException e)
        {
            throw new EngineException(EngineFault.NotFound, TextOf(e), e);
        }
        catch (DockerImageNotFoundException e)
        {
            throw new EngineException(EngineFault.ImageMissing, TextOf(e), e);
        }
        catch (DockerApiException e)
        {
            var fault = e.StatusCode switch
            {
                HttpStatusCode.Conflict => EngineFault.Conflict,
                HttpStatusCode.NotFound when TextOf(e).Contains("No such container", StringComparison.OrdinalIgnoreCase) => EngineFault.NotFound,
                HttpStatusCode.NotFound when TextOf(e).Contains("No such image", StringComparison.OrdinalIgnoreCase) => EngineFault.ImageMissing,
                _ => EngineFault.Failed,
            };
            throw new EngineException(fault, TextOf(e), e);
        }
        catch (Exception e) when (e is HttpRequestException or SocketException or IOException or TimeoutException or ObjectDisposedException)
        {
            throw new EngineException(EngineFault.Unreachable, $"The engine cannot be reached: {e.Message}", e);
        }
    }

    /// <summary>The engine's own sentence, taken out of its JSON and cut to what a person reads.</summary>
    private static string TextOf(DockerApiException e)
    {
        var text = e.ResponseBody ?? e.Message;
        try
        {
            using var json = System.Text.Json.JsonDocument.Parse(text);
            if (json.RootElement.ValueKind == System.Text.Json.JsonValueKind.Object
                && json.RootElement.TryGetProperty("message", out var message))
            {
                text = message.ToString();
            }
        }
        catch (System.Text.Json.JsonException)
        {
            // Plain text is as good.
        }

        text = text.Trim();
        return text.Length <= 1_000 ? text : text[..1_000];
    }

}
