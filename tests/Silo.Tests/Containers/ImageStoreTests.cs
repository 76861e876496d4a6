using GpuTasks.Containers;
using GpuTasks.Functions;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace GpuTasks.Tests.Containers;

/// <summary>Who may have an image that lies on the node, and which images leave it.</summary>
public sealed class ImageStoreTests : IDisposable
{
    private const string Private = "registry.example/a/secret:1";
    private const string Public = "registry.example/all/tool:1";
    private static readonly RegistryLogin Login = new("a", "pw");

    private readonly string folder = Directory.CreateTempSubdirectory("images-").FullName;
    private readonly FakeEngine engine = new();
    private readonly FakeTimeProvider time = new();
    private ImageStore store;

    public ImageStoreTests()
    {
        engine.Registry[Private] = (Image("sha256:private"), Login);
        engine.Registry[Public] = (Image("sha256:public"), null);
        store = Open();
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        store.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task A_private_image_on_the_node_serves_only_accounts_that_the_registry_gave_it_to()
    {
        await UseAsync(Private, "1001", Login);
        await UseAsync(Private, "1001");
        Assert.Equal(1, engine.Pulls);
        await RefusedAsync(Private, "1002");
        await RefusedAsync(Private, "1002", Login with { Password = "guessed" });
        await RefusedAsync("sha256:private", "1002");
        engine.Images["other.example/name:1"] = engine.Images[Private];
        await RefusedAsync("other.example/name:1", "1002");
        await UseAsync(Private, "1002", Login);
        await UseAsync(Private, "1002");

        // Also when the agent starts anew.
        store.Dispose();
        store = Open();
        await UseAsync(Private, "1002");
        await RefusedAsync(Private, "1003");
    }

    [Fact]
    public async Task An_image_that_needs_no_credentials_serves_everybody_and_is_fetched_once()
    {
        await UseAsync(Public, "1001");
        await UseAsync(Public, "1002");
        Assert.Equal(1, engine.Pulls);

        // The operator's own are not the registry's business.
        await UseAsync(TestDocker.EchoImage, "1003");
        Assert.Equal(1, engine.Pulls);
    }

    [Fact]
    public async Task An_image_that_somebody_fetched_with_credentials_and_that_needs_none_is_free_once_that_is_known()
    {
        await UseAsync(Public, "1001", Login);
        await UseAsync(Public, "1002");
        Assert.Equal(2, engine.Pulls);
        await UseAsync(Public, "1003");
        Assert.Equal(2, engine.Pulls);
    }

    [Fact]
    public async Task What_a_broken_off_fetch_brought_is_nobodys()
    {
        engine.Failures["pull"] = new Queue<EngineException>([new EngineException(EngineFault.Unreachable, "lost")]);
        await Assert.ThrowsAsync<EngineException>(() => UseAsync(Private, "1001", Login));
        engine.Images[Private] = engine.Registry[Private].Image; // The engine went on by itself.
        store.Dispose();
        store = Open();
        await RefusedAsync(Private, "1002");
        await UseAsync(Private, "1001", Login);
        await UseAsync(Private, "1001");
    }

    [Fact]
    public async Task Under_disk_pressure_fetched_images_leave_longest_unused_first_and_none_in_use()
    {
        engine.Registry["r/held:1"] = (Image("sha256:held"), null);
        engine.Registry["r/running:1"] = (Image("sha256:running"), null);
        engine.Registry["r/ordered:1"] = (Image("sha256:ordered"), null);
        engine.Registry["r/new:1"] = (Image("sha256:new"), null);
        using var held = await store.AcquireAsync(new ContainerSpec { Image = "r/held:1" }, "1001", _ => { }, Cancel);
        foreach (var image in new[] { "r/running:1", "r/ordered:1", Public, "r/new:1" })
        {
            time.Advance(TimeSpan.FromHours(1));
            await UseAsync(image, "1001");
        }

        engine.ImagesInUse.Add("sha256:running");
        await TrimAsync(() => 5_000);
        Assert.Equal(6, engine.Images.Count);
        await TrimAsync(() => engine.Images.Count == 6 ? 10 : 5_000);
        Assert.DoesNotContain(Public, engine.Images.Keys);
        await TrimAsync(() => 10);
        Assert.Equal([TestDocker.EchoImage, "r/held:1", "r/ordered:1", "r/running:1"], engine.Images.Keys.Order(StringComparer.Ordinal));
        await TrimAsync(() => null);

        // What left and comes again is fetched again.
        var pulls = engine.Pulls;
        await UseAsync(Public, "1001");
        Assert.Equal(pulls + 1, engine.Pulls);

        Task TrimAsync(Func<long?> free) => store.TrimAsync(free, 1_000, new HashSet<string> { "r/ordered:1" }, Cancel);
    }

    private static ImageInfo Image(string id) => new(id, ["/app"], [], [], "", "linux");

    private ImageStore Open() => new(engine, folder, TimeSpan.FromMinutes(1), time, NullLogger.Instance);

    private async Task UseAsync(string image, string account, RegistryLogin? login = null)
    {
        using var hold = await store.AcquireAsync(
            new ContainerSpec { Image = image, RegistryUser = login?.User, RegistryPassword = login?.Password }, account, _ => { }, Cancel);
        Assert.NotNull(hold.Image);
    }

    private async Task RefusedAsync(string image, string account, RegistryLogin? login = null) =>
        Assert.Equal(EngineFault.ImageMissing, (await Assert.ThrowsAsync<EngineException>(() => UseAsync(image, account, login))).Fault);
}
